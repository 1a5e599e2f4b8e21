package code

// None is no code: all is well.
const None Code = 0

// The TPM and its bus.
const (
	TPMAbsent        Code = 101
	TPMNotFresh      Code = 102
	TPMLockedOut     Code = 103
	TPMFailed        Code = 104
	TPMSessionLost   Code = 105
	TPMSaltKey       Code = 106
	TPMFloorMissing  Code = 107
	TPMKeyMissing    Code = 108
	TPMUnanswered    Code = 109
	TPMEndorsement   Code = 110
	TPMEntropyAbsent Code = 111
)

// Images and slots.
const (
	AnchorBlock        Code = 201
	ImageUnreadable    Code = 202
	ImageMalformed     Code = 203
	ImageSignature     Code = 204
	AuthorityUnknown   Code = 205
	ImageDigest        Code = 206
	BelowFloor         Code = 207
	WrongProduct       Code = 208
	DevelopmentImage   Code = 209
	WrongComponent     Code = 210
	NotHealthy         Code = 211
	SlotsExhausted     Code = 212
	JournalUnwritable  Code = 213
	SlotEmpty          Code = 214
	BootloaderDiffers  Code = 215
	UnsealNotPredicted Code = 216
	ReleaseKeyMissing  Code = 217
	HandoverDamaged    Code = 218
	UpdateUnsafe       Code = 219
	BoardUnusable      Code = 220
)

// The configuration.
const (
	ConfigurationMissing Code = 301
	ConfigurationBad     Code = 302
	ConfigurationOld     Code = 303
)

// Measurements.
const (
	PCRMismatch      Code = 401
	BoardMismatch    Code = 402
	LogDoesNotReplay Code = 403
	KnownGoodMissing Code = 404
	KnownGoodBad     Code = 405
	LogFull          Code = 406
)

// Sealing and the SoC's secret.
const (
	SealedObjectMissing Code = 501
	UnsealRefused       Code = 502
	ApprovalMissing     Code = 503
	SecurityKeyMissing  Code = 504
	SecretIsTestKey     Code = 505
	SecretUnavailable   Code = 506
)

// The store.
const (
	StoreDamaged    Code = 601
	StoreRolledBack Code = 602
	StoreFull       Code = 603
	StoreWorn       Code = 604
	StoreUnreadable Code = 605
	StoreMissing    Code = 606
	StoreKey        Code = 607
	StoreTooNew     Code = 608
	StoreCounter    Code = 609
)

// The host.
const (
	HostLinesFighting Code = 701
	HostLatchBroken   Code = 702
	HostFirmware      Code = 703
	HostFlash         Code = 704
	HostLinesMissing  Code = 705

	HostFlashUnprotected Code = 709
	HostFlashWorn        Code = 710

	// The host's control (resetctl).
	HostLineStuck       Code = 711
	HostPinsDisagree    Code = 712
	HostLinesUnreadable Code = 713
	HostPower           Code = 714
	HostNotAdopted      Code = 715
	HostBusy            Code = 716
	HostUnsupported     Code = 717
)

// Time and audit.
const (
	ClockUnknown    Code = 801
	AuditUnwritable Code = 802
)

// Provisioning.
const (
	NotProvisioned     Code = 901
	AlreadyProvisioned Code = 902
	FactoryUnknown     Code = 903
	TPMForeign         Code = 904
	ProvisioningFailed Code = 905
)

var entries = []Entry{
	{TPMAbsent, "tpm-absent", Transient, "No TPM answers on its bus.",
		"Check that the TPM is fitted and has power, then switch the board off and on."},
	{TPMNotFresh, "tpm-not-fresh", Latched, "The TPM's PCRs were not as after a power-on when the bootloader made its first measurement: something measured before it, or the TPM was not reset together with the board.",
		"Inspect the board for a device on the TPM's bus or reset line, then have the owner sign a ticket."},
	{TPMLockedOut, "tpm-locked-out", Transient, "The TPM refuses authorisations because too many have failed.",
		"Leave the board powered until the TPM's recovery time has passed, or use the lockout authorisation that the owner keeps."},
	{TPMFailed, "tpm-failed", Transient, "The TPM's self-test failed; it is in failure mode.",
		"Switch the board off and on. If the code returns, replace the board."},
	{TPMSessionLost, "tpm-session-lost", Latched, "The TPM was reset, or lost its sessions, while the board ran.",
		"Inspect the TPM's power, reset line and bus, then have the owner sign a ticket."},
	{TPMSaltKey, "tpm-salt-key", Latched, "The TPM offers another storage key than the one pinned at provisioning: it is another TPM, or something answers in its place.",
		"Inspect the TPM and its bus. If the TPM was replaced, provision the board again."},
	{TPMFloorMissing, "tpm-floor-missing", Reprovision, "The TPM has no rollback floor or configuration epoch.",
		"Provision the board again: the TPM was cleared or never provisioned."},
	{TPMKeyMissing, "tpm-key-missing", Reprovision, "The TPM has no attestation key or board key, or refuses to use it.",
		"Provision the board again."},
	{TPMUnanswered, "tpm-unanswered", Transient, "The TPM did not answer a command within its limit.",
		"Switch the board off and on. If the code returns, check the TPM's bus."},
	{TPMEndorsement, "tpm-endorsement", Reprovision, "The endorsement key's certificate does not lead to the vendor's root, or the TPM does not have its key.",
		"Check the TPM's vendor and provision the board again."},
	{TPMEntropyAbsent, "entropy-missing", Transient, "There was not enough entropy to start the random generator.",
		"Switch the board off and on. If the code returns, check the TPM."},

	{AnchorBlock, "anchor-block", Reprovision, "The anchor block is damaged or names no usable authority.",
		"Write the boot area again with the factory tool."},
	{ImageUnreadable, "image-unreadable", Transient, "An image could not be read from the medium.",
		"Switch the board off and on. If the code returns, replace the card."},
	{ImageMalformed, "image-malformed", Transient, "An image's header is not of the known format, or exceeds a bound.",
		"Write a signed image to the slot."},
	{ImageSignature, "image-signature", Transient, "A signature of an image does not verify. The message says which one.",
		"Write an image to the slot that was not changed after it was signed."},
	{AuthorityUnknown, "authority-unknown", Transient, "An image is signed by keys that neither the anchor block nor the configuration names together.",
		"Use an image of a known authority, or add the authority to the configuration."},
	{ImageDigest, "image-digest", Transient, "The payload of an image does not have the digest that its header states.",
		"Write the image to the slot again. If the code returns, replace the card."},
	{BelowFloor, "below-floor", Transient, "The security version of an image is below the rollback floor.",
		"Write an image to the slot that is not older than the floor."},
	{WrongProduct, "wrong-product", Transient, "An image is for another product, or for another place in memory.",
		"Write the image of this product to the slot."},
	{DevelopmentImage, "development-image", Transient, "An image is a development image, and the board is not a development board.",
		"Write a product image to the slot."},
	{WrongComponent, "wrong-component", Transient, "An image is of another component than the one that belongs in its place.",
		"Write the right image to the place that the message names."},
	{NotHealthy, "not-healthy", Transient, "A controller was started and did not report itself healthy before the board started again.",
		"Read the crash record and the event log of the next boot."},
	{SlotsExhausted, "slots-exhausted", Transient, "No slot is left that may be tried.",
		"Switch the board off and on for one more attempt. If the code returns, write a good image to a slot."},
	{JournalUnwritable, "journal-unwritable", Transient, "The slot journal cannot be written, so attempts cannot be counted.",
		"Check that the card is not write protected. If the code returns, replace the card."},
	{SlotEmpty, "slot-empty", Transient, "A slot holds no image.",
		"Write a signed image to the slot."},
	{BootloaderDiffers, "bootloader-differs", Latched, "The bootloader in memory is not the one on the medium.",
		"Write the boot area again with the factory tool, then have the owner sign a ticket."},
	{UnsealNotPredicted, "unseal-not-predicted", Transient, "A slot was not made active, since the store would not open under it.",
		"Give the board the release's approvals and known-good set, and ask for the update again."},
	{ReleaseKeyMissing, "release-key-missing", Reprovision, "Neither the anchor block nor the configuration names a release authority.",
		"Write the boot area again with the factory tool."},
	{HandoverDamaged, "handover-damaged", Transient, "What the bootloader left for the controller in memory is damaged or missing.",
		"Switch the board off and on. If the code returns, check the board's memory."},
	{UpdateUnsafe, "update-unsafe", Transient, "A slot was not opened for writing, since the running one has not proven itself and the board could be left without a good image.",
		"Wait until the running controller has reported itself healthy, and ask again."},
	{BoardUnusable, "board-unusable", Transient, "The bootloader could not open a part of the board that it needs.",
		"Switch the board off and on. If the code returns, replace the board."},

	{ConfigurationMissing, "configuration-missing", Reprovision, "The medium has no configuration.",
		"Provision the board, or write a signed configuration with the factory tool."},
	{ConfigurationBad, "configuration-bad", Transient, "No copy of the configuration verifies, or the verified one breaks a rule. The message says which.",
		"Write a signed configuration again."},
	{ConfigurationOld, "configuration-old", Latched, "The epoch of the configuration is below the highest one that the board has had: an older copy was put back.",
		"Write the current configuration, then have the owner sign a ticket."},

	{PCRMismatch, "pcr-mismatch", Transient, "A measurement of the boot is not in the release's known-good set. The message names the event, the expected and the actual digest.",
		"Check that the images and the known-good set are of one release."},
	{BoardMismatch, "board-mismatch", Reprovision, "The measurements of the board itself are not those of its provisioning: the card is in another board, or the board was changed.",
		"Put the card back into its board, or provision again."},
	{LogDoesNotReplay, "log-does-not-replay", Latched, "The event log does not give the TPM's PCRs: something was measured that the log does not have, or the log was changed.",
		"Inspect the TPM's bus, then have the owner sign a ticket."},
	{KnownGoodMissing, "known-good-missing", Transient, "There is no known-good set for the running slot or the board.",
		"Write the known-good set of the release, or provision again if the board's part is missing."},
	{KnownGoodBad, "known-good-bad", Transient, "The known-good set does not verify.",
		"Write the known-good set again."},
	{LogFull, "log-full", Transient, "The event log has no room for another cycle of the host.",
		"Restart the controller before the next cycle of the host."},

	{SealedObjectMissing, "sealed-object-missing", Reprovision, "A sealed object is missing, or the TPM does not load it.",
		"Provision the board again: the TPM or the medium was replaced or cleared."},
	{UnsealRefused, "unseal-refused", Transient, "The TPM did not unseal a secret of the store's key.",
		"Check the measurements that the message lists; a restart is needed for another try."},
	{ApprovalMissing, "approval-missing", Transient, "There is no approval of this release by one of the sealing authorities.",
		"Give the board the release's approvals."},
	{SecurityKeyMissing, "security-key-missing", Transient, "The removable security key is not there or does not answer.",
		"Insert the board's security key, then switch the board off and on."},
	{SecretIsTestKey, "secret-is-test-key", Reprovision, "The SoC's secret is the test key that every open chip has, and the board is not a development board.",
		"Close the chip in the factory, or provision the board as a development board."},
	{SecretUnavailable, "secret-unavailable", Transient, "The SoC's secret could not be derived.",
		"Switch the board off and on. If the code returns, replace the board."},

	{StoreDamaged, "store-damaged", Reprovision, "The store does not authenticate: it is damaged or was changed.",
		"Provision the board again; what the store held is lost."},
	{StoreRolledBack, "store-rolled-back", Latched, "The store is older than the TPM's freshness counter says: an older copy was put back.",
		"Put the current card back, or have the owner sign a ticket that accepts the loss."},
	{StoreFull, "store-full", Transient, "The store has no room for what must be written.",
		"Remove volumes or fetch and clear the audit records, then restart."},
	{StoreWorn, "store-worn", Reprovision, "The medium of the store refuses to be written.",
		"Replace the card and provision the board again."},
	{StoreUnreadable, "store-unreadable", Transient, "The store could not be read from the medium.",
		"Switch the board off and on. If the code returns, replace the card."},
	{StoreMissing, "store-missing", Reprovision, "There is no store on the medium.",
		"Provision the board again; what a store held is lost."},
	{StoreKey, "store-key", Reprovision, "The store has another key: it was made by another board, or by this one before it was provisioned again.",
		"Put the board's own card back, or provision again; what the store held is lost."},
	{StoreTooNew, "store-too-new", Transient, "The format of the store is newer than this firmware.",
		"Run the firmware that wrote the store, or newer."},
	{StoreCounter, "store-counter", Latched, "The TPM's freshness counter is not the one that the store was written with, or it does not count.",
		"Inspect the TPM, then have the owner sign a ticket that accepts the loss, or provision again."},

	{HostLinesFighting, "host-lines-fighting", Latched, "A reset line of the host is driven to held and its net is not at the held level: something else drives it.",
		"Inspect the host's reset lines, then have the owner sign a ticket."},
	{HostLatchBroken, "host-latch-broken", Transient, "The latch that holds the host did not hold across a restart of the controller.",
		"Power the host off and on. If the code returns, check the latch."},
	{HostFirmware, "host-firmware", Transient, "The host's firmware does not verify and could not be recovered.",
		"Give the board a recovery image for the host's firmware."},
	{HostFlash, "host-flash", Transient, "The host's flash does not answer, or is not the controller's when it must be.",
		"Check the flash and its multiplexer, then try again."},
	{HostLinesMissing, "host-lines-missing", Reprovision, "The board has no reset line to its host and was provisioned to guard one.",
		"Use a board that has the lines, or provision this one without a host."},
	{HostFlashUnprotected, "host-flash-unprotected", Transient, "The host's flash does not protect what it must, or protects what the host has to write.",
		"Check the flash's write-protect pin, and that its regions lie where it can protect them."},
	{HostFlashWorn, "host-flash-worn", Transient, "A block of the host's flash does not read as it was written.",
		"Replace the flash."},
	{HostLineStuck, "host-line-stuck", Transient, "A line of the host was let go and its net stays at the held level: something else holds it.",
		"Find what holds the line that the message names, then switch the board off and on."},
	{HostPinsDisagree, "host-pins-disagree", Latched, "Two inputs that see the same line of the host say different things.",
		"Inspect the host's lines and the wires to both inputs, then have the owner sign a ticket."},
	{HostLinesUnreadable, "host-lines-unreadable", Transient, "The part that drives or sees the host's lines does not answer, so that nobody knows whether the host is held.",
		"Check the expander or latch and its bus, then switch the board off and on."},
	{HostPower, "host-power", Transient, "The host's power did not come or did not go within its limit.",
		"Check the host's power supply, or force it off, then ask again."},
	{HostNotAdopted, "host-not-adopted", Transient, "The host ran when the controller started, and no ticket of this host cycle vouched for it. It was held.",
		"Nothing: the host is verified and released anew. If the code returns, check the store."},
	{HostBusy, "host-busy", Transient, "A request was refused, since the host is being verified, released or switched off.",
		"Ask again when that has ended; holding and forcing off are always possible."},
	{HostUnsupported, "host-unsupported", Transient, "A request was refused, since the board has no line to do what was asked.",
		"Ask for what the board can do: hold, reset, or force off."},

	{ClockUnknown, "clock-unknown", Transient, "The time is not known.",
		"Set the time, or let the board reach its time servers."},
	{AuditUnwritable, "audit-unwritable", Transient, "The audit log cannot be written, so nothing that has to be recorded is allowed.",
		"Fetch the audit records and make room, or replace the card."},

	{NotProvisioned, "not-provisioned", Reprovision, "The board has never been provisioned.",
		"Provision the board with the factory tool."},
	{AlreadyProvisioned, "already-provisioned", Transient, "The board was asked to be provisioned and is provisioned already.",
		"Nothing, if it is your board. To provision it anew, write its card anew with the factory tool."},
	{FactoryUnknown, "factory-unknown", Transient, "The factory's certificate is not the one that the configuration names, or it names none, and then nobody may provision the board.",
		"Use the certificate that the configuration names, or write a signed configuration that names yours."},
	{TPMForeign, "tpm-foreign", Reprovision, "The TPM holds something of another board's, or authorisations that the card does not have.",
		"Put the board's own card in, clear the TPM with its lockout authorisation, or use a new TPM."},
	{ProvisioningFailed, "provisioning-failed", Transient, "A step of provisioning failed. The message says which one and why.",
		"Restart the board if the message says so, and run provisioning again: it goes on where it was cut."},
}
