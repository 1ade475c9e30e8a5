
# Seconds that a busy machine may add to what has kept its deadline. Whatever goes past the deadline itself takes longer:
# the kernel gives up on a silent address after minutes, twenty endpoints one after the other take twenty deadlines.
SLACK = 5
