"""What the scan before sealing knows of single kinds of files; `bundler/scan.py` joins it."""
