"""The PEFT adapter: its parameters, the tuner that injects them, and the PEFT model around it."""
