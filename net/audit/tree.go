package audit

import (
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// segmentLevel is that of a segment's node in the tree: SegmentRecords = 2^segmentLevel.
const segmentLevel = 6

var hasher = rfc6962.DefaultHasher

// leafHash is that of a record.
func leafHash(record []byte) Hash { return Hash(hasher.HashLeaf(record)) }

// fold is the node above hashes of one level, of which there is a power of two.
func fold(hashes []Hash) Hash {
	level := append([]Hash(nil), hashes...)
	for ; len(level) > 1; level = level[:len(level)/2] {
		for i := range len(level) / 2 {
			level[i] = Hash(hasher.HashChildren(level[2*i][:], level[2*i+1][:]))
		}
	}
	return level[0]
}

// A tree is what is in memory of the log's Merkle tree (RFC 6962, 2.1): the nodes of
// sealed segments and the leaves behind them. leaves gives those of a sealed segment,
// from the store.
type tree struct {
	segments []Hash // nodes of level segmentLevel
	tail     []Hash
	leaves   func(segment uint64) ([]Hash, error)
}

func (t *tree) size() uint64 { return uint64(len(t.segments))*SegmentRecords + uint64(len(t.tail)) }

// node computes a node all of whose leaves there are.
func (t *tree) node(id compact.NodeID) (Hash, error) {
	begin, end := id.Coverage()
	if end > t.size() || begin >= end {
		return Hash{}, fmt.Errorf("audit: there is no node %d of level %d in a tree of %d records", id.Index, id.Level, t.size())
	}
	sealed := uint64(len(t.segments)) * SegmentRecords
	switch {
	case begin >= sealed:
		return fold(t.tail[begin-sealed : end-sealed]), nil
	case id.Level >= segmentLevel && end <= sealed:
		return fold(t.segments[begin/SegmentRecords : end/SegmentRecords]), nil
	case id.Level >= segmentLevel: // the tail has a segment's worth of records that is not sealed yet
		return t.split(id)
	}
	leaves, err := t.leaves(begin / SegmentRecords)
	if err != nil {
		return Hash{}, err
	}
	return fold(leaves[begin%SegmentRecords : begin%SegmentRecords+end-begin]), nil
}

// split computes a node from the two below it.
func (t *tree) split(id compact.NodeID) (Hash, error) {
	left, err := t.node(compact.NewNodeID(id.Level-1, 2*id.Index))
	if err != nil {
		return Hash{}, err
	}
	right, err := t.node(compact.NewNodeID(id.Level-1, 2*id.Index+1))
	if err != nil {
		return Hash{}, err
	}
	return Hash(hasher.HashChildren(left[:], right[:])), nil
}

// left are the perfect subtrees of the first n records, left to right.
func (t *tree) left(n uint64) ([][]byte, error) {
	hashes := make([][]byte, 0, bits.OnesCount64(n))
	for _, id := range compact.RangeNodes(0, n, nil) {
		h, err := t.node(id)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h[:])
	}
	return hashes, nil
}

// root is the tree's root when it had n records.
func (t *tree) root(n uint64) (Hash, error) {
	if n == 0 {
		return Hash(hasher.EmptyRoot()), nil
	}
	hashes, err := t.left(n)
	if err != nil {
		return Hash{}, err
	}
	r, err := (&compact.RangeFactory{Hash: hasher.HashChildren}).NewRange(0, n, hashes)
	if err != nil {
		return Hash{}, err
	}
	root, err := r.GetRootHash(nil)
	return Hash(root), err
}

// prove gathers the hashes of a proof.
func (t *tree) prove(nodes proof.Nodes) ([]Hash, error) {
	hashes := make([][]byte, 0, len(nodes.IDs))
	for _, id := range nodes.IDs {
		h, err := t.node(id)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h[:])
	}
	hashes, err := nodes.Rehash(hashes, hasher.HashChildren)
	if err != nil {
		return nil, err
	}
	all := make([]Hash, len(hashes))
	for i, h := range hashes {
		all[i] = Hash(h)
	}
	return all, nil
}
