"""What systemd passes, is told and allows: descriptors, sd_notify(3), units and their sandbox."""
