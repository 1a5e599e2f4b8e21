package factory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keyServiceFile has the key that signs grants, in a clients' folder, and its public half.
const keyServiceFile = "key-service"

func newKeyService() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	return k, nil
}

// openKeyService reads the key, or makes it: key-service.key, PKCS #8, and the public half
// in key-service.pub, PKIX, both PEM.
func openKeyService(folder string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(folder, keyServiceFile)
	b, err := os.ReadFile(path + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		k, err := newKeyService()
		if err != nil {
			return nil, err
		}
		return k, saveKeyService(path, k)
	}
	if err != nil {
		return nil, fmt.Errorf("factory: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("factory: %s.key has no PEM block: remove it to have another key made", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("factory: %s.key: %w", path, err)
	}
	p256, ok := k.(*ecdsa.PrivateKey)
	if !ok || p256.Curve != elliptic.P256() {
		return nil, fmt.Errorf("factory: %s.key is a %T, not ECDSA on P-256", path, k)
	}
	return p256, nil
}

func saveKeyService(path string, k *ecdsa.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return fmt.Errorf("factory: %w", err)
	}
	return errors.Join(
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644))
}
