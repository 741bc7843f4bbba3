"""What comes in from elsewhere and goes out: answers as files of other tools, students as models."""
