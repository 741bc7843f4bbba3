"""The ways to reach a judge: a server, this process, recorded replies, the pocket rule."""
