"""Evaluating a model: sampling its answers, judging their language, scoring their content."""
