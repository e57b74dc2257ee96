"""Other clients' protocols over engines that answer OpenAI's: pure, synchronous translators."""
