import pytest

from harness.errors import memory_error, unknown_choice


def test_a_message_lists_forty_choices_and_counts_the_rest() -> None:
    names = [f"q{number:03}" for number in range(42)]
    message = str(unknown_choice("question", "q0005", names))
    assert message.startswith("unknown question 'q0005'. Did you mean 'q005'? Choices: q000, q001, ")
    assert message.endswith("q038, q039 and 2 more.")
    assert str(unknown_choice("row", "x", ["b", "a"])) == "unknown row 'x'. Choices: a, b."


def test_memory_that_ran_out_is_told_from_other_errors() -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):
        assert str(memory_error(error)).startswith("memory ran out (")
    said = "memory ran out (can't allocate memory). Everything finished is kept. Training takes less"
    assert str(memory_error(RuntimeError("in kernel 7:\ncan't allocate memory"))).startswith(said)
    assert memory_error(RuntimeError("shapes do not fit")) is None
    for error, words in (  # of fork and mmap; of numpy
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
        (MemoryError("Unable to allocate 7.28 TiB"), "Unable to allocate 7.28 TiB"),
    ):
        assert str(memory_error(error)).startswith(f"memory ran out ({words}).")
    assert len(str(memory_error(RuntimeError("out of memory " + "x " * 1000)))) < 600


@pytest.mark.slow
def test_torchs_own_errors_of_memory_are_known() -> None:
    """2**60 numbers of 4 bytes are more than any machine has."""
    import torch

    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert "memory ran out (" in str(memory_error(error.value))
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert "memory ran out (CUDA out of memory." in str(memory_error(on_gpu))
