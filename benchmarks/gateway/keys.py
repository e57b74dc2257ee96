"""What requests carry as a key: one that our gateway knows, and one of the same length that nobody reads."""

KEY = "psk-0123456789ab-the-only-key-there-is-in-this-benchmark"
STRANGE_KEY = "sk-0123456789ab-the-only-key-there-is-in-this-benchmark-"
