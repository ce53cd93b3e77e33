"""Alarms: what a run measures of itself now and then, and what of that is a sign of sickness.

`measures` computes numbers on the device, `alarm` says what an alarm is, `listing` has all of them,
`looking` is the hook that looks and acts, and `going_back` takes a run back to its last good
checkpoint.
"""
