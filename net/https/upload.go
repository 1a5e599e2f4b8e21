package https

import (
	"io"
	"net/http"
	"time"
)

// patient lets a request's body take its time, up to a limit, as long as something of it
// comes within each RequestLimit: a slow line is no slow-loris.
func patient(h http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, end := http.NewResponseController(w), time.Now().Add(limit)
		if err := c.SetWriteDeadline(end.Add(RequestLimit)); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		with := *r
		with.Body = &upload{r.Body, c, end}
		h.ServeHTTP(w, &with)
	})
}

// upload is a body of which each read has a limit of its own.
type upload struct {
	io.ReadCloser
	c   *http.ResponseController
	end time.Time
}

// Read implements io.Reader.
func (u *upload) Read(b []byte) (int, error) {
	next := time.Now().Add(RequestLimit)
	if next.After(u.end) {
		next = u.end
	}
	if err := u.c.SetReadDeadline(next); err != nil {
		return 0, err
	}
	return u.ReadCloser.Read(b)
}
