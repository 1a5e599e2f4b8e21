package cpu

// start does what the package comment says and goes on to kernel.enter. It is
// entered with a branch, by a board's entry symbol, not called.
func start()
