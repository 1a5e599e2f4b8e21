package wire

import "fmt"

// A Status is the status field of a completion without its phase tag: status code in bits
// 7:0, status code type in 10:8, CRD in 12:11, M in 13, DNR in 14 (Base, section
// 3.3.3.2.1).
type Status uint16

// DNR: do not retry, the same command will fail again.
const DNR Status = 1 << 14

// Statuses (Base, section 3.3.3.2.1, figures 95 to 98; NVM, section 2.1).
const (
	Success               Status = 0x000
	InvalidOpcode         Status = 0x001
	InvalidField          Status = 0x002
	CommandIDConflict     Status = 0x003
	DataTransferError     Status = 0x004
	InternalError         Status = 0x006
	AbortRequested        Status = 0x007
	InvalidNamespace      Status = 0x00b
	CommandSequence       Status = 0x00c
	InvalidSGLCount       Status = 0x00e // invalid number of SGL descriptors
	DataSGLLength         Status = 0x00f
	SGLType               Status = 0x011
	SGLOffset             Status = 0x016
	KeepAliveExpired      Status = 0x018
	KeepAliveInvalid      Status = 0x019
	SanitizeFailed        Status = 0x01c
	SanitizeInProgress    Status = 0x01d
	NamespaceWriteProtect Status = 0x020
	CommandInterrupted    Status = 0x021
	TransientTransport    Status = 0x022
	LBARange              Status = 0x080
	CapacityExceeded      Status = 0x081
	NamespaceNotReady     Status = 0x082
	FormatInProgress      Status = 0x084

	InvalidQueueID       Status = 0x101
	InvalidQueueSize     Status = 0x102
	AbortLimit           Status = 0x103
	AsyncLimit           Status = 0x105
	InvalidLogPage       Status = 0x109
	InvalidFormat        Status = 0x10a
	FeatureNotSaveable   Status = 0x10d
	FeatureNotChangeable Status = 0x10e

	ConnectFormat     Status = 0x180 // connect incompatible format
	ConnectBusy       Status = 0x181 // controller busy
	ConnectParameters Status = 0x182
	ConnectRestart    Status = 0x183 // restart discovery
	ConnectHost       Status = 0x184 // invalid host
	InvalidQueueType  Status = 0x185
	DiscoverRestart   Status = 0x190
	AuthRequired      Status = 0x191
	WriteFault        Status = 0x280
	UnrecoveredRead   Status = 0x281
	CompareFailure    Status = 0x285
	AccessDenied      Status = 0x286
	HostPathError     Status = 0x370
	HostAborted       Status = 0x371
	statusCodeAndType        = 0x7ff
)

// Code is the status without DNR, M and CRD: what to compare with the constants.
func (s Status) Code() Status { return s & statusCodeAndType }

// names says what the commonest statuses mean to who reads an error.
var names = map[Status]string{
	InvalidOpcode: "invalid opcode", InvalidField: "invalid field in command", InvalidNamespace: "invalid namespace",
	InternalError: "internal error", CommandSequence: "command sequence error", LBARange: "LBA out of range",
	CapacityExceeded: "capacity exceeded", NamespaceNotReady: "namespace not ready", FormatInProgress: "format in progress",
	SanitizeInProgress: "sanitize in progress", CommandInterrupted: "command interrupted: try again later", TransientTransport: "transient transport error",
	NamespaceWriteProtect: "namespace is write protected", KeepAliveInvalid: "keep alive timeout invalid",
	ConnectParameters: "connect: invalid parameters", ConnectHost: "connect: this host is not known there",
	ConnectBusy: "connect: controller busy", AuthRequired: "authentication required", WriteFault: "write fault",
	UnrecoveredRead: "unrecovered read error", CompareFailure: "compare failure", AsyncLimit: "too many event requests",
	InvalidLogPage: "invalid log page", AbortRequested: "aborted as requested", DataTransferError: "data transfer error",
}

// Error makes a status that is not Success an error.
func (s Status) Error() string {
	name := names[s.Code()]
	if name == "" {
		name = "command failed"
	}
	retry := ""
	if s&DNR != 0 {
		retry = ", do not retry"
	}
	return fmt.Sprintf("nvme: status %#03x: %s%s", uint16(s.Code()), name, retry)
}
