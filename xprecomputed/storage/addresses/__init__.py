"""What a URL means: every form that people type or paste (pure)."""
