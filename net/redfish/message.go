package redfish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// baseRegistry is the registry whose messages errors have: Base 1.18 (DSP8011, 2024.1).
const baseRegistry = "Base.1.18"

// A message is one of the Base registry.
type message struct {
	text       string // with %1, %2 for its arguments
	severity   string
	resolution string
}

// messages are those that this service has.
var messages = map[string]message{
	"Success":                          {"The request completed successfully.", "OK", "None."},
	"GeneralError":                     {"A general error has occurred.  See Resolution for information on how to resolve the error, or @Message.ExtendedInfo if Resolution is not provided.", "Critical", "None."},
	"InternalError":                    {"The request failed due to an internal service error.  The service is still operational.", "Critical", "Resubmit the request.  If the problem persists, consider resetting the service."},
	"ResourceMissingAtURI":             {"The resource at the URI %1 was not found.", "Critical", "Place a valid resource at the URI or correct the URI and resubmit the request."},
	"OperationNotAllowed":              {"The HTTP method is not allowed on this resource.", "Critical", "None."},
	"InsufficientPrivilege":            {"There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.", "Critical", "Either abandon the operation or change the associated access rights and resubmit the request if the operation failed."},
	"NoValidSession":                   {"There is no valid session established with the implementation.", "Critical", "Establish a session before attempting any operations."},
	"ServiceTemporarilyUnavailable":    {"The service is temporarily unavailable.  Retry in %1 seconds.", "Critical", "Wait for the indicated retry duration and retry the operation."},
	"MalformedJSON":                    {"The request body submitted was malformed JSON and could not be parsed by the receiving service.", "Critical", "Ensure that the request body is valid JSON and resubmit the request."},
	"UnrecognizedRequestBody":          {"The service detected a malformed request body that it was unable to interpret.", "Warning", "Correct the request body and resubmit the request if it failed."},
	"QueryNotSupported":                {"Querying is not supported by the implementation.", "Warning", "Remove the query parameters and resubmit the request if the operation failed."},
	"QueryNotSupportedOnResource":      {"Querying is not supported on the requested resource.", "Warning", "Remove the query parameters and resubmit the request if the operation failed."},
	"QueryNotSupportedOnOperation":     {"Querying is not supported with the requested operation.", "Warning", "Remove the query parameters and resubmit the request if the operation failed."},
	"QueryParameterValueTypeError":     {"The value '%1' for the query parameter %2 is not a type that the parameter can accept.", "Warning", "Correct the value for the query parameter in the request and resubmit the request if the operation failed."},
	"QueryParameterOutOfRange":         {"The value '%1' for the query parameter %2 is out of range %3.", "Warning", "Reduce the value for the query parameter to a value that is within range, such as a start or count value that is within bounds of the number of resources in a collection or a page that is within the range of valid pages."},
	"QueryCombinationInvalid":          {"Two or more query parameters in the request cannot be used together.", "Warning", "Remove one or more of the query parameters and resubmit the request if the operation failed."},
	"PreconditionFailed":               {"The ETag supplied did not match the ETag required to change this resource.", "Critical", "Try the operation again using the appropriate ETag."},
	"ActionParameterMissing":           {"The action %1 requires the parameter %2 to be present in the request body.", "Critical", "Supply the action with the required parameter in the request body when the request is resubmitted."},
	"ActionParameterNotSupported":      {"The parameter %1 for the action %2 is not supported on the target resource.", "Warning", "Remove the parameter supplied and resubmit the request if the operation failed."},
	"ActionParameterUnknown":           {"The action %1 was submitted with the invalid parameter %2.", "Warning", "Correct the invalid parameter and resubmit the request if the operation failed."},
	"ActionParameterValueTypeError":    {"The value '%1' for the parameter %2 in the action %3 is not a type that the parameter can accept.", "Warning", "Correct the value for the parameter in the request body and resubmit the request if the operation failed."},
	"ActionParameterValueNotInList":    {"The value '%1' for the parameter %2 in the action %3 is not in the list of acceptable values.", "Warning", "Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed."},
	"ActionParameterValueFormatError":  {"The value '%1' for the parameter %2 in the action %3 is not a format that the parameter can accept.", "Warning", "Correct the value for the parameter in the request body and resubmit the request if the operation failed."},
	"PropertyUnknown":                  {"The property %1 is not in the list of valid properties for the resource.", "Warning", "Remove the unknown property from the request body and resubmit the request if the operation failed."},
	"PropertyNotWritable":              {"The property %1 is a read-only property and cannot be assigned a value.", "Warning", "Remove the property from the request body and resubmit the request if the operation failed."},
	"PropertyValueFormatError":         {"The value '%1' for the property %2 is not a format that the property can accept.", "Warning", "Correct the value for the property in the request body and resubmit the request if the operation failed."},
	"ResourceInUse":                    {"The change to the requested resource failed because the resource is in use or in transition.", "Warning", "Remove the condition and resubmit the request if the operation failed."},
	"ResourceInStandby":                {"The request could not be performed because the resource is in standby.", "Critical", "Ensure that the resource is in the correct power state and resubmit the request."},
	"CreateFailedMissingReqProperties": {"The create operation failed because the required property %1 was missing from the request.", "Critical", "Correct the body to include the required property with a valid value and resubmit the request if the operation failed."},
	"PropertyValueTypeError":           {"The value '%1' for the property %2 is not a type that the property can accept.", "Warning", "Correct the value for the property in the request body and resubmit the request if the operation failed."},
	"PropertyValueNotInList":           {"The value '%1' for the property %2 is not in the list of acceptable values.", "Warning", "Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed."},
	"ResourceAlreadyExists":            {"The requested resource of type %1 with the property %2 with the value %3 already exists.", "Critical", "Do not repeat the create operation as the resource already exists."},
	"ResourceExhaustion":               {"The resource %1 was unable to satisfy the request due to unavailability of resources.", "Critical", "Ensure that the resources are available and resubmit the request."},
}

// An Error is a refusal as the specification has it (DSP0266 8.6): backends give it as
// their error, too.
type Error struct {
	Status int    // HTTP's
	ID     string // of a message of the Base registry
	Args   []string
	// Next is what to do, where the registry's resolution does not say it.
	Next string
	// RetryAfter is in seconds; 0 for none.
	RetryAfter int
}

// Refuse makes an Error.
func Refuse(status int, id string, args ...string) *Error {
	return &Error{Status: status, ID: id, Args: args}
}

func (e *Error) Error() string { return fmt.Sprintf("redfish: %d %s: %s", e.Status, e.ID, e.message()) }

// message fills the arguments in.
func (e *Error) message() string {
	text := messages[e.ID].text
	for i, a := range e.Args {
		text = strings.ReplaceAll(text, "%"+strconv.Itoa(i+1), printable(a))
	}
	return text
}

// maxArgument is how much of what a client has sent goes into a message, in bytes.
const maxArgument = 128

// printable cuts what a client has sent, and leaves nothing in it that a terminal takes
// as a command.
func printable(s string) string {
	b := []byte(s[:min(len(s), maxArgument)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// extended is the message as an object of @Message.ExtendedInfo.
func (e *Error) extended() object {
	m := messages[e.ID]
	args := make([]string, len(e.Args))
	for i, a := range e.Args {
		args[i] = printable(a)
	}
	next := m.resolution
	if e.Next != "" {
		next = e.Next
	}
	return object{
		"@odata.type": "#Message.v1_2_0.Message", "MessageId": baseRegistry + "." + e.ID, "Message": e.message(),
		"MessageArgs": args, "MessageSeverity": m.severity, "Resolution": next,
	}
}

// write answers with the error.
func (e *Error) write(w http.ResponseWriter) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	send(w, e.Status, object{"error": object{
		"code": baseRegistry + "." + e.ID, "message": e.message(), "@Message.ExtendedInfo": []object{e.extended()},
	}})
}

// send answers with a JSON object.
func send(w http.ResponseWriter, status int, o object) {
	body, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("redfish: %v", err)) // of strings, numbers, lists and objects only
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// stream answers with JSON that is made while it is sent. What fails then can only be told by
// a connection that ends before the answer does.
func stream(w http.ResponseWriter, status int, write func(io.Writer) error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := write(w); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// refusal makes any error an Error. What a backend says goes to people as the next step
// only where it is an Error: others could tell what they should not.
func refusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Refuse(http.StatusInternalServerError, "InternalError")
}
