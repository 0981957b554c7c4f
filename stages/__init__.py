"""The stages of an edit: functions on tensors, with the networks passed in."""
