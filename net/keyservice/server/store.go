package server

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nitro/net/keyservice"
	"nitro/nvme/key"
)

// Errors of the store.
var (
	errNoKey  = errors.New("the volume has no key")
	errExists = errors.New("the volume has a key already")
)

// A key's file (docs/keyservice.md, "Store").
const (
	keyMagic   = "NCVOLKY1"
	keyHead    = 56 // magic, volume, commitment: what is authenticated
	nonceSize  = 12
	keyFile    = keyHead + nonceSize + key.Size + 16 // GCM's tag
	masterSize = 32
	masterInfo = "nitro key service volume v1"
)

// A store is the keys of volumes, in a folder, a file each, encrypted under a master key.
type store struct {
	folder string
	master master
}

// A master is the key that all others are under, 32 bytes.
type master []byte

func readMaster(folder string) (master, error) {
	b, err := os.ReadFile(filepath.Join(folder, masterFile))
	if err == nil && len(b) != masterSize {
		err = fmt.Errorf("%s has %d bytes, not %d: restore it", masterFile, len(b), masterSize)
	}
	return b, err
}

// aead is one file's own, so that no nonce meets another file's under one key.
func (m master) aead(info string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, m, nil, info, 32)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// aead is a volume's.
func (s *store) aead(volume [key.VolumeSize]byte) (cipher.AEAD, error) {
	return s.master.aead(masterInfo + string(volume[:]))
}

func (s *store) path(volume [key.VolumeSize]byte) string {
	return filepath.Join(s.folder, keyservice.Identity(volume))
}

// create makes a key, and gives its commitment and its file.
func (s *store) create(volume [key.VolumeSize]byte) (commitment [32]byte, file []byte, err error) {
	k := newKey()
	defer clear(k)
	commitment = key.Commitment(k)
	a, err := s.aead(volume)
	if err != nil {
		return commitment, nil, err
	}
	b := append([]byte(keyMagic), volume[:]...)
	b = append(b, commitment[:]...)
	b = append(b, make([]byte, nonceSize)...)
	nonce := b[keyHead:]
	rand.Read(nonce)
	b = a.Seal(b, nonce, k, b[:keyHead])
	return commitment, b, writeNew(s.path(volume), b)
}

// newKey draws one whose halves differ, as XTS wants.
func newKey() []byte {
	k := make([]byte, key.Size)
	for {
		rand.Read(k)
		if subtle.ConstantTimeCompare(k[:key.Size/2], k[key.Size/2:]) == 0 {
			return k
		}
	}
}

// open gives a volume's key, which the caller zeroes, and its commitment.
func (s *store) open(volume [key.VolumeSize]byte) (k []byte, commitment [32]byte, err error) {
	b, err := os.ReadFile(s.path(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, commitment, errNoKey
	}
	if err != nil {
		return nil, commitment, err
	}
	bad := fmt.Errorf("the key's file of volume %x is damaged, or of another master key: restore it", volume)
	if len(b) != keyFile || string(b[:8]) != keyMagic || [key.VolumeSize]byte(b[8:]) != volume {
		return nil, commitment, bad
	}
	a, err := s.aead(volume)
	if err != nil {
		return nil, commitment, err
	}
	if k, err = a.Open(nil, b[keyHead:keyHead+nonceSize], b[keyHead+nonceSize:], b[:keyHead]); err != nil {
		return nil, commitment, bad
	}
	return k, [32]byte(b[24:keyHead]), nil
}

// remove deletes a key. Copies of the folder may still have it; see docs/keyservice.md.
func (s *store) remove(volume [key.VolumeSize]byte) error {
	err := os.Remove(s.path(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoKey
	}
	return errors.Join(err, syncFolder(s.folder))
}

// writeNew writes a file that is whole or not there, whenever the power goes, and never in
// the place of another one.
func writeNew(path string, b []byte) error {
	return writeBy(path, b, func(temporary string) error {
		err := os.Link(temporary, path)
		if errors.Is(err, fs.ErrExist) {
			return errExists
		}
		return err
	})
}

// replace writes a file in the place of another one.
func replace(path string, b []byte) error {
	return writeBy(path, b, func(temporary string) error { return os.Rename(temporary, path) })
}

func writeBy(path string, b []byte, place func(temporary string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name())
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
