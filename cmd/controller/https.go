package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"strconv"
	"time"

	"nitro/board"
	"nitro/net/redfish"
	"nitro/net/stack"
)

// firmware is what runs once the board is up.
type firmware struct {
	board       board.Board
	ports       []*stack.Stack
	certificate tls.Certificate
	ready       time.Time
}

const httpsPort = 443

// Limits of the server, so that a slow or a greedy client takes little.
const (
	handshakeAndHeaderLimit = 10 * time.Second
	requestLimit            = 30 * time.Second
	idleLimit               = 2 * time.Minute
	headerBytes             = 16 << 10
	bodyBytes               = 1 << 20
)

// makeIdentity makes this boot's TLS key and a certificate that it signs itself. So far
// nothing proves to a client which board it speaks to.
func (f *firmware) makeIdentity(b board.Board) error {
	f.board = b
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	serial := make([]byte, 16)
	rand.Read(serial)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: "Nitro Controller", SerialNumber: b.Name()},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"nitro-controller"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	f.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	log.Printf("certificate: SHA-256 %x", sha256.Sum256(der))
	return nil
}

// serve opens the HTTPS port on the management port, and on no other.
func (f *firmware) serve() error {
	id, err := f.board.UniqueID()
	if err != nil {
		return err
	}
	l, err := f.ports[0].Listen("tcp", ":"+strconv.Itoa(httpsPort))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", f.health)
	service := redfish.New(redfish.Config{UUID: serviceUUID(id), Product: f.board.Name()})
	mux.Handle("/redfish", service)
	mux.Handle("/redfish/", service)
	server := &http.Server{
		Handler:           http.MaxBytesHandler(mux, bodyBytes),
		ReadHeaderTimeout: handshakeAndHeaderLimit,
		ReadTimeout:       requestLimit,
		WriteTimeout:      requestLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send is no news
	}
	f.ready = time.Now()
	go func() {
		err := server.Serve(tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{f.certificate},
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"http/1.1"},
		}))
		log.Fatalf("https: %v", err) // the board is of no use to anybody: reset it
	}()
	return nil
}

// health answers that the firmware serves: since how many seconds, and on what board.
func (f *firmware) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(struct {
		Status   string `json:"status"`
		Board    string `json:"board"`
		Emulated bool   `json:"emulated"`
		Seconds  int64  `json:"ready_seconds"`
	}{"ready", f.board.Name(), f.board.Emulated(), int64(time.Since(f.ready) / time.Second)})
}

// serviceUUID names a board's service: a UUID of version 8 (RFC 9562, 5.8) from the
// chip's number, so the same over all boots.
func serviceUUID(id uint64) string {
	u := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("nitro redfish service"), id))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
