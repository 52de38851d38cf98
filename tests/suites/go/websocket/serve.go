// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// The largest message that either end takes.
const limit = 64 << 20

// serve answers on /echo and /deflate with what was sent, on /greet before anything was sent, on /abort with a connection that
// ends without a close frame.
func serve(address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		echo(w, r, websocket.CompressionDisabled)
	})
	mux.HandleFunc("/deflate", func(w http.ResponseWriter, r *http.Request) {
		echo(w, r, websocket.CompressionContextTakeover)
	})
	mux.HandleFunc("/greet", greet)
	mux.HandleFunc("/abort", abort)
	return http.ListenAndServe(address, mux)
}

func echo(w http.ResponseWriter, r *http.Request, compression websocket.CompressionMode) {
	options := &websocket.AcceptOptions{CompressionMode: compression, Subprotocols: []string{"maille"}}
	connection, err := websocket.Accept(w, r, options)
	if err != nil {
		return
	}
	defer connection.CloseNow()
	connection.SetReadLimit(limit)
	for {
		if err := echoOne(r.Context(), connection); err != nil {
			return
		}
	}
}

// echoOne sends one message back while it arrives.
func echoOne(context context.Context, connection *websocket.Conn) error {
	kind, reader, err := connection.Reader(context)
	if err != nil {
		return err
	}
	writer, err := connection.Writer(context, kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, reader); err != nil {
		return err
	}
	return writer.Close()
}

func greet(w http.ResponseWriter, r *http.Request) {
	connection, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer connection.CloseNow()
	if connection.Write(r.Context(), websocket.MessageText, []byte("welcome")) == nil {
		_ = connection.Close(websocket.StatusNormalClosure, "that was all")
	}
}

func abort(w http.ResponseWriter, r *http.Request) {
	connection, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	context, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	_, _, _ = connection.Read(context)
	_ = connection.CloseNow()
}
