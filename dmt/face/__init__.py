"""The face in a picture: landmarks, crop, the landmark basis, styles, head pose and blinks."""
