"""Judges behind the OpenAI protocol."""
