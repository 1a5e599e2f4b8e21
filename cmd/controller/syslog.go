package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"time"

	"nitro/boot/store"
	"nitro/net/syslog"
)

// makeSender makes what sends the audit records, if the configuration names a collector.
func (f *firmware) makeSender() {
	c := f.chain.Config
	if f.log == nil || c.Collector == nil {
		return
	}
	name, _ := f.logName() // the log has it
	f.sender = syslog.New(syslog.Config{
		Log: f.log, Cursor: syslogCursor{f.chain.Store}, Host: name, Address: c.Collector.Address.String(),
		Dial: f.ports[0].Dial, TLS: f.collectorTLS, Report: log.Printf,
	})
}

// collectorTLS knows the collector by the configuration, and shows the API's certificate.
func (f *firmware) collectorTLS() *tls.Config {
	c := f.chain.Config.Collector
	pool := x509.NewCertPool()
	pool.AddCert(c.CA)
	return &tls.Config{
		RootCAs: pool, ServerName: c.Name, MinVersion: tls.VersionTLS12, // RFC 9662
		Time: f.clientTime, Certificates: []tls.Certificate{f.identity.Load().Certificate},
	}
}

// sendLog sends for as long as the board is in service.
func (f *firmware) sendLog() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for f.reason() == nil {
			time.Sleep(service)
		}
		cancel()
	}()
	if err := f.sender.Run(ctx); err != nil {
		log.Printf("%v", err)
	}
}

// syslogRecord is the store's record of how far the collector is: `1 <origin> <index>`.
const syslogRecord = "syslog/cursor"

// A syslogCursor keeps the cursor in the store.
type syslogCursor struct{ s *store.Store }

// Load implements syslog.Cursor.
func (c syslogCursor) Load() (origin string, n uint64, err error) {
	b, err := c.s.Get(syslogRecord)
	if errors.Is(err, store.ErrNotFound) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	var version int
	if k, err := fmt.Sscanf(string(b), "%d %s %d", &version, &origin, &n); k != 3 || err != nil || version != 1 {
		return "", 0, nil // what is not known is sent again
	}
	return origin, n, nil
}

// Save implements syslog.Cursor.
func (c syslogCursor) Save(origin string, n uint64) error {
	return c.s.Put(syslogRecord, fmt.Appendf(nil, "1 %s %d", origin, n))
}
