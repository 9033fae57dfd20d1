"""Protected health information: found at the door, replaced by tokens of one request, restored in its answer."""
