package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fetchLifetime is how long Fetch's token lives: it is used at once.
const fetchLifetime = 10 * time.Second

// Fetch asks the service at a base URL, such as "http://169.254.169.254", for a token and
// then for the document. The context should have an end.
func Fetch(ctx context.Context, client *http.Client, base string) (*Document, error) {
	token, err := ask(ctx, client, http.MethodPut, base+TokenPath, LifetimeHeader, strconv.Itoa(int(fetchLifetime/time.Second)))
	if err != nil {
		return nil, err
	}
	text, err := ask(ctx, client, http.MethodGet, base+HostPath, TokenHeader, string(token))
	if err != nil {
		return nil, err
	}
	d := new(Document)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("metadata: the document: %w", err)
	}
	return d, d.check()
}

// ask sends one request, and gives the answer's body.
func ask(ctx context.Context, client *http.Client, method, url, header, value string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	r.Header.Set(header, value)
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, MaxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("metadata: %s %s: %w", method, url, err)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("metadata: %s %s: %s: %.200s", method, url, answer.Status, strings.TrimSpace(string(text)))
	case len(text) > MaxDocument:
		return nil, fmt.Errorf("metadata: %s %s: more than %d bytes", method, url, MaxDocument)
	}
	return text, nil
}
