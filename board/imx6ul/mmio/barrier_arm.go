package mmio

// onBoard tells that /dev/mem may be the board's.
const onBoard = true

func barrier() // DSB SY, in barrier_arm.s
