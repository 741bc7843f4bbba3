"""A teacher's multiple-choice question about n responses (PAD, section 4.2 and Eq. 8; the wording is ours)."""

from collections.abc import Mapping, Sequence

from harness.errors import UserError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

INSTRUCTION = (
    "You compare answers to the same request. Judge correctness first, then how completely, clearly and safely "
    "the request is answered. Reply with one letter only."
)
QUESTION = "Which answer is best? Reply with its letter."


def block(letter: str, response: str) -> str:
    """One answer between its label and its label again: a long answer's letter is still near where it ends."""
    return f"Answer {letter}:\n{response}\n(Answer {letter})"


def mcq_messages(messages: Sequence[Mapping[str, str]], responses: Sequence[str]) -> list[dict[str, str]]:
    """Raises UserError for fewer than 2 responses, or more than there are letters."""
    if not 2 <= len(responses) <= len(LETTERS):
        rule = f"needs 2 to {len(LETTERS)} responses, one for each letter"
        raise UserError(f"a multiple-choice question {rule}, got {len(responses)}. Show fewer (sampling.n).")
    blocks = [block(letter, response) for letter, response in zip(LETTERS, responses, strict=False)]
    turns = "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)
    request = messages[0]["content"] if len(messages) == 1 else turns
    text = "\n\n".join([INSTRUCTION, "Request:\n" + request, *blocks, QUESTION])
    # One user turn and no system turn, because Gemma-2's chat template has none.
    return [{"role": "user", "content": text}]
