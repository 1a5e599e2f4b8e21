package main

// sha256 measures one long message, and short ones of the length of an event or of a
// page, of the length of a key, and of an odd number of blocks.
func sha256(add func(figure)) {
	b := build("sha256", "./attest/sha256")
	for _, message := range []struct {
		name        string
		size, count int
	}{
		{"sha256", 1 << 20, 1},
		{"sha256.4k", 4096, 64},
		{"sha256.1000", 1000, 256},
		{"sha256.200", 200, 1024},
		{"sha256.32", 32, 1024},
	} {
		openssl := b.count([]string{b.peer}, message.size, message.count)
		own := b.least([]string{b.subject, "nitro"}, message.size, message.count)
		add(beside(message.name, "insn/B", own["total"], openssl["total"]))
		standard := b.count([]string{b.subject, "go"}, message.size, message.count)
		add(beside(message.name+".go", "insn/B", standard["total"], openssl["total"]))
		if message.name == "sha256" {
			details(add, message.name, own, openssl)
		}
	}
}
