"""samacli: learn by scalable meta learning how much each training example should count."""

__version__ = "0.1.0"
