"""What keeps a failing part from taking the rest along."""
