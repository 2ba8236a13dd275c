"""The protocol between a pool and its rigs: frames, messages, sessions, and both ends over trio."""

VERSION = "0.1.0"
