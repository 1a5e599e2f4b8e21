package i2c

// dividers are those that IFDR knows (IMX6ULLRM 31.7.2, table of I2C_IFDR values),
// in order, with the values that choose them.
var dividers = [...]struct {
	by uint32
	ic uint16
}{
	{22, 0x20}, {24, 0x21}, {26, 0x22}, {28, 0x23}, {30, 0x00}, {32, 0x24}, {36, 0x25}, {40, 0x26}, {42, 0x03},
	{44, 0x27}, {48, 0x28}, {52, 0x05}, {56, 0x29}, {60, 0x06}, {64, 0x2a}, {72, 0x2b}, {80, 0x2c}, {88, 0x09},
	{96, 0x2d}, {104, 0x0a}, {112, 0x2e}, {128, 0x2f}, {144, 0x0c}, {160, 0x30}, {192, 0x31}, {224, 0x32},
	{240, 0x0f}, {256, 0x33}, {288, 0x10}, {320, 0x34}, {384, 0x35}, {448, 0x36}, {480, 0x13}, {512, 0x37},
	{576, 0x14}, {640, 0x38}, {768, 0x39}, {896, 0x3a}, {960, 0x17}, {1024, 0x3b}, {1152, 0x18}, {1280, 0x3c},
	{1536, 0x3d}, {1792, 0x3e}, {1920, 0x1b}, {2048, 0x3f}, {2304, 0x1c}, {2560, 0x1d}, {3072, 0x1e}, {3840, 0x1f},
}

// divider finds IFDR's value for the fastest bus that is no faster than speed.
func divider(clock, speed uint32) (ic uint16, ok bool) {
	for _, d := range dividers {
		if uint64(speed)*uint64(d.by) >= uint64(clock) {
			return d.ic, clock > 0
		}
	}
	return 0, false
}
