"""What a rig computes on: devices, the processes that hold them, and who looks after both."""
