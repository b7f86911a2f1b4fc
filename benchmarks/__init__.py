"""xprecomputed beside its peers and beside the bare codecs, in one run; see README.md here."""
