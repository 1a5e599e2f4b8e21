package release

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	mldsax509 "filippo.io/mldsa/x509"
)

// Files of a key folder (docs/nitroctl.md, "Keys"). A private key is in NAME.pem, its
// public half in NAME.pub.pem.
const (
	privateSuffix   = ".pem"
	publicSuffix    = ".pub.pem"
	certificateFile = "factory.crt.pem"
	developmentFile = "DEVELOPMENT"
)

// Kinds of PEM blocks (RFC 7468, sections 10, 13 and 5).
const (
	privateBlock     = "PRIVATE KEY"
	publicBlock      = "PUBLIC KEY"
	certificateBlock = "CERTIFICATE"
)

// maxKeyFile is the longest key file in bytes: an ML-DSA-65 public key makes 2.7 KB.
const maxKeyFile = 16 << 10

// developmentText is what the marker says to people.
const developmentText = "The keys in this folder are development keys. What they sign runs on development boards alone.\n"

// A keyFile is a file to be written.
type keyFile struct {
	name string
	data []byte
	mode fs.FileMode
}

// Save writes the keys into a folder, which is made if it is not there. Private keys are
// PKCS #8 (RFC 5958; ML-DSA-65 as its seed, RFC 9881, 6), in files that the owner alone
// reads. No file is ever overwritten: where one of them is there, none is written.
func (k *Keys) Save(dir string) error {
	files, err := k.files()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			clear(f.data)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("release: keys: %w", err)
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release: keys: %s is there already: keys are never overwritten: choose another folder: %w", filepath.Join(dir, f.name), fs.ErrExist)
		}
	}
	for _, f := range files {
		if err := create(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return fmt.Errorf("release: keys: %w", err)
		}
	}
	return nil
}

// files encodes all. The marker is first: no development key is ever without it.
func (k *Keys) files() (files []keyFile, err error) {
	if k.development {
		files = append(files, keyFile{developmentFile, []byte(developmentText), 0o644})
	}
	for _, n := range k.Public() {
		der, err := mldsax509.MarshalPKIXPublicKey(k.public[n])
		if err != nil {
			return nil, fmt.Errorf("release: key %s: %w", n, err)
		}
		files = append(files, keyFile{string(n) + publicSuffix, encodePEM(publicBlock, der), 0o644})
	}
	for _, n := range k.Private() {
		der, err := mldsax509.MarshalPKCS8PrivateKey(k.private[n])
		if err != nil {
			return nil, fmt.Errorf("release: key %s cannot leave where it is: %w", n, err)
		}
		files = append(files, keyFile{string(n) + privateSuffix, encodePEM(privateBlock, der), 0o600})
		clear(der)
	}
	if k.certificate != nil {
		files = append(files, keyFile{certificateFile, encodePEM(certificateBlock, k.certificate.Raw), 0o644})
	}
	return files, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// create writes a file that must not be there yet.
func create(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// Load reads what keys there are in folders: each may hold those of one custodian. A key
// that is in two folders must be the same. Development keys and others do not mix.
func Load(dirs ...string) (*Keys, error) {
	if len(dirs) == 0 {
		return nil, fmt.Errorf("release: no key folder: %w", ErrKeyMissing)
	}
	k := newKeys(false)
	for i, dir := range dirs {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "read", Path: dir, Err: errors.New("is no folder")}
		}
		if err != nil {
			return nil, fmt.Errorf("release: keys: %w", err)
		}
		_, err = os.Stat(filepath.Join(dir, developmentFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("release: keys: %w", err)
		}
		if development := err == nil; i > 0 && development != k.development {
			return nil, fmt.Errorf("release: keys: one of %s and %s has development keys: use them apart", dirs[0], dir)
		} else {
			k.development = development
		}
		if err := k.load(dir); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// load reads one folder.
func (k *Keys) load(dir string) error {
	for _, n := range Names() {
		der, err := readPEM(filepath.Join(dir, string(n)+publicSuffix), publicBlock, 0o7777)
		if err == nil && der != nil {
			var p crypto.PublicKey
			if p, err = mldsax509.ParsePKIXPublicKey(der); err == nil {
				err = k.AddPublic(n, p)
			}
		}
		if err != nil {
			return fmt.Errorf("release: keys: %s: %w", filepath.Join(dir, string(n)+publicSuffix), err)
		}
		if err := k.loadPrivate(filepath.Join(dir, string(n)+privateSuffix), n); err != nil {
			return fmt.Errorf("release: keys: %s: %w", filepath.Join(dir, string(n)+privateSuffix), err)
		}
	}
	der, err := readPEM(filepath.Join(dir, certificateFile), certificateBlock, 0o7777)
	if err != nil || der == nil {
		return err
	}
	if k.certificate, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("release: keys: %s: %w", filepath.Join(dir, certificateFile), err)
	}
	return nil
}

func (k *Keys) loadPrivate(path string, n Name) error {
	der, err := readPEM(path, privateBlock, 0o700)
	if err != nil || der == nil {
		return err
	}
	defer clear(der)
	key, err := mldsax509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("a %T does not sign: it must be %s", key, n.Algorithm())
	}
	return k.Add(n, s)
}

// readPEM reads the one block of a file; nil if the file is not there. A mode beyond what
// is allowed is refused: a private key that others could read is not private any more.
func readPEM(path, kind string, allowed fs.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := info.Mode().Perm(); m&^allowed != 0 {
		return nil, fmt.Errorf("others may read it (mode %#o): chmod 600, and think who has read it", m)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	defer clear(b)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if len(b) > maxKeyFile || block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("it must hold one PEM block %q and nothing more, in at most %d bytes", kind, maxKeyFile)
	}
	return block.Bytes, nil
}
