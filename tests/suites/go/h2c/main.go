// SPDX-License-Identifier: Apache-2.0

// Command h2c serves HTTP/2 with prior knowledge on the address given, for h2spec to judge what stands before it.
//
// GET is answered with a page, everything else with the body that was sent. It must not refuse what h2spec sends on purpose:
// what is wrong with a frame is for the one that h2spec talks to.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// think is how long each answer takes. A stream whose answer is complete is closed, and what then comes for it is passed over
// (RFC 9113 5.1): the frames that h2spec sends behind a request, one write later, must find the stream open, as they do on a real network.
const think = 25 * time.Millisecond

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: h2c ADDRESS")
	}
	page := strings.Repeat("maille\n", 100)
	answer := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(think)
		w.Header().Set("content-type", "text/plain")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, page)
			return
		}
		_, _ = io.Copy(w, io.LimitReader(r.Body, 1<<20))
	}
	handler := h2c.NewHandler(http.HandlerFunc(answer), &http2.Server{})
	server := &http.Server{Addr: os.Args[1], Handler: handler}
	log.Fatal(server.ListenAndServe())
}
