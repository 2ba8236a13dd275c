"""Paying miners: rounds, policies, and what carries a payout to the far side."""
