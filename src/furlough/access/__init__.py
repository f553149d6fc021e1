"""Users, tokens, roles, sessions: who is calling and what they may do."""
