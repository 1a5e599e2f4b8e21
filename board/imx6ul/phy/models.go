package phy

// A model is what a kind of PHY has beyond clause 22.
type model struct {
	name     string
	id, mask uint32 // of the identifier; the lowest four bits are the revision
	setUp    func(*PHY) error
	resolve  func(*PHY) (State, error) // speed and duplex of a link that is up
}

var models = [...]model{
	{"KSZ8081", 0x00221560, 0xfffffff0, (*PHY).setUpKSZ8081, (*PHY).resolveKSZ8081},
	{"DP83825I", 0x2000a140, 0xfffffff0, (*PHY).setUpDP83825I, (*PHY).resolveDP83825I},
}

// generic is a PHY of which we know clause 22 only.
var generic = model{name: "clause 22", setUp: func(*PHY) error { return nil }, resolve: (*PHY).resolveGeneric}

func modelOf(id uint32) *model {
	for i := range models {
		if id&models[i].mask == models[i].id {
			return &models[i]
		}
	}
	return &generic
}

// change sets bits of a register and clears others.
func (p *PHY) change(register uint8, set, clear uint16) error {
	v, err := p.bus.Read(p.address, register)
	if err != nil {
		return err
	}
	return p.bus.Write(p.address, register, v&^clear|set)
}

// resolveGeneric takes the best that both sides can (IEEE 802.3, annex 28B.3). Where
// the partner does not negotiate, the PHY reports what it has detected as the
// partner's one ability (28.2.3.1).
func (p *PHY) resolveGeneric() (State, error) {
	ours, err := p.bus.Read(p.address, regAdvertisement)
	if err != nil {
		return State{}, err
	}
	theirs, err := p.bus.Read(p.address, regPartner)
	if err != nil {
		return State{}, err
	}
	switch both := ours & theirs; {
	case both&can100Full != 0:
		return State{true, 100, true}, nil
	case both&can100 != 0:
		return State{true, 100, false}, nil
	case both&can10Full != 0:
		return State{true, 10, true}, nil
	case both&can10 != 0:
		return State{true, 10, false}, nil
	}
	return State{}, nil // no common mode: there is no link to speak of
}

// KSZ8081 (DS00002199, section 4).
const (
	regKSZControl1    = 0x1e // PHY Control 1
	kszModeMask       = 7    // operation mode indication
	kszMode10         = 1
	kszMode100        = 2
	kszMode10Full     = 5
	kszMode100Full    = 6
	regKSZControl2    = 0x1f   // PHY Control 2
	ksz50MHzReference = 1 << 7 // RMII reference clock select: 50 MHz come in at XI
)

// setUpKSZ8081 has the PHY take the chip's 50 MHz as its clock.
func (p *PHY) setUpKSZ8081() error { return p.change(regKSZControl2, ksz50MHzReference, 0) }

func (p *PHY) resolveKSZ8081() (State, error) {
	v, err := p.bus.Read(p.address, regKSZControl1)
	if err != nil {
		return State{}, err
	}
	switch v & kszModeMask {
	case kszMode10:
		return State{true, 10, false}, nil
	case kszMode100:
		return State{true, 100, false}, nil
	case kszMode10Full:
		return State{true, 10, true}, nil
	case kszMode100Full:
		return State{true, 100, true}, nil
	}
	return State{}, nil // it still negotiates
}

// DP83825I (SNLS629, section 8.6).
const (
	regDPStatus = 0x10 // PHYSTS
	dpLink      = 1 << 0
	dp10        = 1 << 1
	dpFull      = 1 << 2

	regDPControl     = 0x17   // RCSR, RMII and status
	dp50MHzReference = 1 << 7 // the reference clock is 50 MHz and comes in
	dpElasticityMask = 3      // size of the receive elasticity buffer
	dpElasticity2    = 1      // 2 bits, for frames of at most 2,400 bytes
)

// setUpDP83825I has the PHY take the chip's 50 MHz as its clock, and the elasticity
// buffer that fits frames of 1,522 bytes.
func (p *PHY) setUpDP83825I() error {
	return p.change(regDPControl, dp50MHzReference|dpElasticity2, dpElasticityMask)
}

func (p *PHY) resolveDP83825I() (State, error) {
	v, err := p.bus.Read(p.address, regDPStatus)
	if err != nil || v&dpLink == 0 {
		return State{}, err
	}
	s := State{Up: true, Mbps: 100, FullDuplex: v&dpFull != 0}
	if v&dp10 != 0 {
		s.Mbps = 10
	}
	return s, nil
}
