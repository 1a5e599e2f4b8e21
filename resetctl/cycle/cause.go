package cycle

// A Cause is why the host was held last, or goes on running under a new controller: what an
// operator wants to know of a server that is not as he has left it.
type Cause uint8

// The causes. What was asked for has the name that Redfish's ResetType has for it (DMTF
// DSP8010, Resource).
const (
	Unchanged   Cause = iota // nothing that holds the host has happened
	Started                  // the controller has started, and what it found was not to be adopted
	AdoptedIt                // the controller has started and adopted the host that ran
	AskedOn                  // somebody has asked, and so on
	AskedReset               //
	AskedHold                //
	SwitchedOff              // it was asked to switch itself off, and has
	LostPower                // its power went without that
	ResetItself              // it was reset, and not by the controller
	Stopped                  // a step of the cycle has failed: the state's code says why
)

var causeNames = [...]string{"", "ControllerStart", "Adopted", "On", "ForceRestart", "ForceOff", "GracefulShutdown", "PowerLost", "HostReset", "Failure"}

func (c Cause) String() string { return causeNames[c] }

// CauseOf tells why a step has the host held, or left running behind a start of the
// controller: from the phase before it, the event, and the action that it gave. It is
// Unchanged for every other step.
func CauseOf(before Phase, e Event, a Action) Cause {
	switch {
	case a.Do == Quarantine:
		return Stopped
	case a.Do == Watch && before == Adopting:
		return AdoptedIt
	case a.Do != Hold || before == Holding && isSeen(e): // it is being held already
		return Unchanged
	case before == Looking, before == Checking:
		return Started
	}
	switch e := e.(type) {
	case Asked:
		return map[Request]Cause{AskOn: AskedOn, AskReset: AskedReset, AskHold: AskedHold, AskForceOff: AskedHold}[e.Request]
	case Seen:
		switch {
		case before != Running && before != Stopping:
			return Stopped
		case e.Power:
			return ResetItself
		case before == Stopping:
			return SwitchedOff
		}
		return LostPower
	}
	return Stopped
}

func isSeen(e Event) bool {
	_, is := e.(Seen)
	return is
}
