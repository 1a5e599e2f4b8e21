package kernel

// A text is what the kernel says, on the console and in its text files. What does
// not fit is lost.
type text struct {
	n uint32
	b [8192]byte
}

func (t *text) char(c byte) {
	if t.n < uint32(len(t.b)) {
		t.b[t.n] = c
		t.n++
	}
}

func (t *text) str(s string) *text {
	for i := 0; i < len(s); i++ {
		t.char(s[i])
	}
	return t
}

func (t *text) hex(v uint32) *text {
	t.str("0x")
	for shift := 28; shift >= 0; shift -= 4 {
		t.char("0123456789abcdef"[v>>uint(shift)&15])
	}
	return t
}

func (t *text) dec(v uint32) *text {
	var d [10]byte
	i := len(d)
	for {
		i--
		d[i] = byte('0' + v%10)
		v /= 10
		if v == 0 {
			break
		}
	}
	for ; i < len(d); i++ {
		t.char(d[i])
	}
	return t
}

// line says a name and a number on a line of their own.
func (t *text) line(name string, v uint32) { t.str(name).str(" ").dec(v).str("\n") }

// say puts what the text holds on the console, and empties it.
func (c *console) say(t *text) {
	for i := uint32(0); i < t.n && c.room() >= maxPut; i++ {
		c.put(t.b[i])
	}
	t.n = 0
}
