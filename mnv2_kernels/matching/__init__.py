"""What any module computes, recognised by the ATen operators of a trial call, and what serves it."""
