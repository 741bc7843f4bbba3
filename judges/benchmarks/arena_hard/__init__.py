"""Arena-Hard v0.1 and v2.0: labels of two games per question, Bradley-Terry and style control."""
