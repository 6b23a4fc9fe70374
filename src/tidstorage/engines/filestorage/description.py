"""What people know of one transaction: who made it, and what for."""
