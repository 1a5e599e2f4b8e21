// Package cycle decides what happens to the host: when it is held, verified, released,
// watched, adopted, and when the board gives up. All of it is one function without side
// effects, [Step]: from a [State] and an [Event] to the next state and the [Action] that
// the caller carries out. Package resetctl calls it, and a test explores it exhaustively:
// every state that can be reached and every event, with power cuts, restarts of the
// controller and faults of lines between any two steps.
//
// # The rules, and what each one answers
//
//   - A host cycle begins with a number that is durable before anything else happens, and
//     with an event in the log. Grants and tickets name the number, so neither outlives its
//     cycle.
//   - In a cycle: hold, own the flash, recover if need be, protect, read the protection
//     back, hash, extend once, write the ticket, hand the flash over, release. What is
//     hashed last is what runs: nothing can write between the hash and the release.
//   - The BMC is let go only when the multiplexer is seen to have cut it off the
//     controller's flash and the write protection is seen on; the host's CPU comes last.
//   - After a restart of the controller a running host is adopted only on a board whose
//     lines keep their levels, and only if a ticket vouches for this cycle. Else it is held
//     and verified anew: a host that somebody released in between must not be taken for
//     one that was verified.
//   - What is judged is what pins show, each time. A line that is commanded to hold and
//     does not, two inputs that disagree, or a line that does not let go is quarantine: the
//     controller does not control.
//   - A host that was reset by itself, or by somebody else, is held and verified anew.
//   - A TPM that fails blocks the next release and leaves a running host alone. A request
//     for a reset is then refused before the host is touched.
//   - A log without room for a whole cycle asks for a restart before the cycle.
//   - Holding is always possible. Everything else that is asked for while a cycle is under
//     way is refused.
//   - What fails is tried again at most [code.Retries] times, each time in a new cycle. Then
//     the host stays held, with the reason, until somebody asks again.
package cycle

import "nitro/boot/code"

// Lines is a set of lines. A line that is in a set of nets is at its held level, whatever
// its polarity: the safe one.
type Lines uint8

// The lines that hold something.
const (
	Platform Lines = 1 << iota // held: the platform is in reset
	BMC                        // held: the BMC is in reset
	Host                       // held: the host's CPU is in reset
	Mux                        // held: the flash is the controller's and nobody else reaches it
	Protect                    // held: the flash is write protected

	Resets = Platform | BMC | Host
	All    = Resets | Mux | Protect
)

// Has tells whether all lines of x are in the set.
func (l Lines) Has(x Lines) bool { return l&x == x }

func (l Lines) String() string {
	s := ""
	for i, name := range [...]string{"platform", "bmc", "host", "mux", "protect"} {
		if l>>i&1 != 0 {
			s += "+" + name
		}
	}
	if s == "" {
		return "none"
	}
	return s[1:]
}

// A View is what pins show at one moment, after they have settled. A board may be without
// Platform or BMC, and then has them in neither set; the other lines it must have.
type View struct {
	Commanded Lines     // what the driving parts hold, or leave to pulls that hold
	Nets      Lines     // what is held, seen at the net
	Power     bool      // the host's power is good; true where the board cannot tell
	Dipped    bool      // a reset line that is let go was held for a moment since the last view
	Fault     code.Code // HostPinsDisagree, HostLinesUnreadable, or None
}

// Held tells whether all reset lines that the board has are held.
func (v View) Held(has Lines) bool { return v.Nets.Has(has & Resets) }

// Running tells whether the host runs from its own flash: all resets are released, at the
// driving parts and at the nets, there is power, the flash is the host's and protected.
func (v View) Running() bool {
	return (v.Nets|v.Commanded)&(Resets|Mux) == 0 && v.Power && v.Nets.Has(Protect)
}

// Owner tells who reaches the flash.
func (v View) Owner() Owner {
	if v.Nets.Has(Mux) {
		return Controller
	}
	return TheHost
}

// An Owner of the flash.
type Owner uint8

// The two sides of the multiplexer.
const (
	Controller Owner = iota
	TheHost
)

// fighting tells whether a line is commanded to hold and its net is not held.
func (v View) fighting() bool { return v.Commanded&^v.Nets != 0 }

// A Phase is how far things have come.
type Phase uint8

// The phases. Those from Counting to FreeingHost are a cycle on its way to the release.
const (
	Off             Phase = iota // the controller has not said anything yet
	Looking                      // the pins are looked at for the first time
	Checking                     // the ticket is being checked
	Adopting                     // the adopted cycle is being measured
	Holding                      // the lines are being driven to held
	Cutting                      // the host's power is being forced off
	Held                         // the host is held and nothing is under way
	Counting                     // the number of the new cycle is being made durable
	Opening                      // the cycle's event is being measured
	Owning                       // the flash is being made the controller's
	Recovering                   // it is verified, and recovered where need be
	Protecting                   // its static regions are being protected
	ReadingBack                  // the protection is being read back
	Hashing                      // what will run is being hashed
	Measuring                    // the digests are being extended
	Arming                       // the latch gets its nonce, and the ticket is being written
	HandingOver                  // the flash is being given to the host
	FreeingBMC                   // the BMC is being released
	FreeingPlatform              // the platform is being released
	Powering                     // the host's power is being switched on
	FreeingHost                  // the host's CPU is being released
	Running                      // the host runs
	Stopping                     // it was asked to switch itself off
	Restarting                   // held, until the controller restarts with an empty log
	Quarantined                  // held, for good
)

var phaseNames = [...]string{"off", "looking", "checking", "adopting", "holding", "cutting", "held", "counting",
	"opening", "owning", "recovering", "protecting", "reading back", "hashing", "measuring", "arming", "handing over",
	"freeing bmc", "freeing platform", "powering", "freeing host", "running", "stopping", "restarting", "quarantined"}

func (p Phase) String() string { return phaseNames[p] }

// A Goal is what the host should be.
type Goal uint8

// The goals.
const (
	StayHeld Goal = iota
	CutPower      // held, and without power
	Run
)

// A State is all that the decisions rest on. It can be compared with ==.
type State struct {
	Phase   Phase
	Lines   Lines  // that the board has
	Keeps   bool   // they keep their levels over a restart of the controller
	Cycle   uint64 // the last number that was counted
	Goal    Goal
	Adopted bool      // the host that runs was adopted
	Tries   uint8     // cycles in a row that have failed
	Misses  uint8     // views in a row that could not be had
	TPM     code.Code // why nothing more can be measured in this boot
	Why     code.Code // why the host is held though it should run; of the quarantine
}

// A Request is what the API may ask for.
type Request uint8

// The requests.
const (
	AskOn       Request = iota // verify and release
	AskOff                     // press the power button, and let the host switch itself off
	AskForceOff                // hold, and cut the power
	AskReset                   // hold, and verify and release anew
	AskHold                    // hold
)

// An Event is what has happened.
type Event interface{ event() }

// The events.
type (
	// Boot: the controller has started and its store is open.
	Boot struct {
		Lines Lines
		Keeps bool
		Cycle uint64    // the last one in the store
		Goal  Goal      // the last one in the store: StayHeld or Run
		Why   code.Code // of a quarantine that the controller is in already
	}
	// Seen is the result of Look, Hold, HandOver, Release, PowerOn and Override, and comes
	// again and again while the action is Watch or Press.
	Seen struct{ View }
	// Done: the other actions have succeeded.
	Done struct{}
	// Failed: the action has not, or not within its limit.
	Failed struct{ Code code.Code }
	// TPMLost: nothing can be measured any more in this boot.
	TPMLost struct{ Code code.Code }
	// Asked: somebody may ask, and asks.
	Asked struct{ Request }
)

func (Boot) event()    {}
func (Seen) event()    {}
func (Done) event()    {}
func (Failed) event()  {}
func (TPMLost) event() {}
func (Asked) event()   {}

// A Do is a kind of action.
type Do uint8

// The actions, and the event that answers each one. Every one may be answered by Failed.
const (
	Nothing      Do = iota // go on with what is under way
	Look                   // look at the pins; Seen
	Check                  // does a ticket vouch for Cycle and the latch? Done; Failed says why not
	Adopt                  // measure the adopted Cycle and the ticket's digests; Done
	Hold                   // drive all resets and the protection to held, disarm the latch; Seen
	Count                  // make Cycle durable; Done
	Open                   // measure the event of Cycle, if the log has room for all of it; Done
	Own                    // take the flash; Done
	Recover                // verify, recover, and measure the recoveries; Done
	ProtectFlash           // protect the static regions and hold the protection's line; Done
	ReadBack               // read the protection back from the chip; Done
	Hash                   // hash all that is static, and compare with the manifest; Done
	Measure                // extend the digests; Done
	Arm                    // give the latch a new nonce, and write the ticket; Done
	HandOver               // give the flash to the host; Seen
	Release                // release Lines; Seen
	PowerOn                // press the button until there is power; Seen
	Watch                  // the host runs or is held: look now and then; Seen
	Press                  // press the button, then watch; Seen, or Failed when the host took too long
	Override               // press the button until the power is off; Seen
	Restart                // restart the controller when it suits
	Quarantine             // drive everything to held and show Code, until the controller restarts
	Refuse                 // Code says why; nothing has changed
)

// An Action is what is to be done. Its fields are set as Do says.
type Action struct {
	Do    Do
	Cycle uint64
	Lines Lines
	Code  code.Code
}
