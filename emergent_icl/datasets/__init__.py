"""Data: what can be shown (banks), which of it is shown (sequences), and the way to the device."""
