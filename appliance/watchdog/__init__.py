"""What a service tells its supervisor's watchdog, and from what it knows that it is alive."""
