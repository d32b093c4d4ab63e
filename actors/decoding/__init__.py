"""Decoding methods against confusion: rules on the logits of each token, and retries. No method trains anything."""
