"""What a model's answers are worth: sampling them, judging their language, scoring what they say."""
