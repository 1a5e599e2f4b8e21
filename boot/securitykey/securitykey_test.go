package securitykey_test

import (
	"bytes"
	"errors"
	"testing"

	"nitro/boot/securitykey"
)

func TestRead(t *testing.T) {
	secret := [securitykey.SecretSize]byte{1, 2, 3}
	good := securitykey.Encode(secret)
	rom := func(content []byte) func([]byte) error {
		return func(b []byte) error { copy(b, content); return nil }
	}
	if got, err := securitykey.Read(rom(good)); err != nil || !bytes.Equal(got, secret[:]) {
		t.Errorf("%x, %v", got, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := securitykey.Read(rom(bad)); !errors.Is(err, securitykey.ErrBlank) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, err := securitykey.Read(rom(nil)); !errors.Is(err, securitykey.ErrBlank) {
		t.Errorf("a blank EEPROM: %v", err)
	}
	gone := errors.New("no acknowledge")
	if _, err := securitykey.Read(func([]byte) error { return gone }); !errors.Is(err, securitykey.ErrMissing) || !errors.Is(err, gone) {
		t.Errorf("none: %v", err)
	}
}
