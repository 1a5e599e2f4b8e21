package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Tokens and header of a flattened device tree (Devicetree Specification v0.4,
// chapter 5), all big-endian.
const (
	treeMagic  = 0xd00dfeed
	treeHeader = 40 // bytes; offset 8 holds where the structure block starts, 12 the strings, 36 the structure's size

	tokenBegin = 1 // node: name with NUL, padded
	tokenEnd   = 2
	tokenProp  = 3 // length, offset of the name among the strings, value, padded
	tokenNop   = 4
	tokenLast  = 9
)

// errTree says that a device tree is cut or malformed.
var errTree = errors.New("peer: malformed device tree")

// enableTimer gives a copy of the board's device tree in which the node /timer,
// the processor's architected timer, has the status "okay".
//
// Debian's tree disables it, since a real board's loader may leave that timer
// unconfigured; Linux then reads the time from a slow peripheral, has no clock in
// its vDSO, and traps user mode's reads of the counter. The emulator does start
// the timer, so with it Linux keeps time as well as it can, and programs can
// count instructions by the counter.
func enableTimer(tree []byte) ([]byte, error) {
	if len(tree) < treeHeader || binary.BigEndian.Uint32(tree) != treeMagic {
		return nil, errTree
	}
	r := treeReader{
		data:    tree,
		at:      uint64(binary.BigEndian.Uint32(tree[8:])),
		strings: uint64(binary.BigEndian.Uint32(tree[12:])),
	}
	at, size, err := r.find([]string{"", "timer"}, "status")
	if err != nil {
		return nil, err
	}
	okay := []byte("okay\x00")
	if size < len(okay) {
		return nil, fmt.Errorf("peer: device tree: status of /timer is %d bytes, want at least %d", size, len(okay))
	}
	out := slices.Clone(tree)
	value := out[at : at+size : at+padded(size)]
	clear(value[:cap(value)])
	copy(value, okay)
	binary.BigEndian.PutUint32(out[at-8:], uint32(len(okay)))
	for rest := value[padded(len(okay)):cap(value)]; len(rest) > 0; rest = rest[4:] {
		binary.BigEndian.PutUint32(rest, tokenNop)
	}
	return out, nil
}

// padded rounds up to the tree's four-byte grid.
func padded(n int) int { return (n + 3) &^ 3 }

// A treeReader walks the structure block. Offsets are kept in 64 bits, so that
// none of the file's can wrap.
type treeReader struct {
	data        []byte
	at, strings uint64
}

// word takes the next word.
func (r *treeReader) word() (uint32, error) {
	if r.at+4 > uint64(len(r.data)) {
		return 0, errTree
	}
	w := binary.BigEndian.Uint32(r.data[r.at:])
	r.at += 4
	return w, nil
}

// text gives the NUL-terminated string at an offset.
func (r *treeReader) text(at uint64) (string, error) {
	if at >= uint64(len(r.data)) {
		return "", errTree
	}
	text, _, ok := bytes.Cut(r.data[at:], []byte{0})
	if !ok {
		return "", errTree
	}
	return string(text), nil
}

// find gives where the value of a node's property lies in the file, and its
// length. The node is named by the path from the root, whose own name is empty.
func (r *treeReader) find(node []string, property string) (at, size int, err error) {
	var here []string
	for {
		token, err := r.word()
		if err != nil {
			return 0, 0, err
		}
		switch token {
		case tokenBegin:
			name, err := r.text(r.at)
			if err != nil {
				return 0, 0, err
			}
			here = append(here, name)
			r.at += uint64(padded(len(name) + 1))
		case tokenEnd:
			if len(here) == 0 {
				return 0, 0, errTree
			}
			here = here[:len(here)-1]
		case tokenProp:
			name, at, size, err := r.property()
			if err != nil {
				return 0, 0, err
			}
			if name == property && slices.Equal(here, node) {
				return at, size, nil
			}
		case tokenNop:
		case tokenLast:
			return 0, 0, fmt.Errorf("peer: device tree: no property %s in node %q", property, node)
		default:
			return 0, 0, errTree
		}
	}
}

// property takes what follows a property's token.
func (r *treeReader) property() (name string, at, size int, err error) {
	length, err := r.word()
	if err != nil {
		return "", 0, 0, err
	}
	offset, err := r.word()
	if err != nil {
		return "", 0, 0, err
	}
	value := r.at
	if r.at += (uint64(length) + 3) &^ 3; r.at > uint64(len(r.data)) {
		return "", 0, 0, errTree
	}
	name, err = r.text(r.strings + uint64(offset))
	return name, int(value), int(length), err
}
