"""The control map: what laws and standards ask, what is done for it, which tests show it, what this box shows now."""
