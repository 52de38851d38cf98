// SPDX-License-Identifier: Apache-2.0

//go:build judges

// Package judges pins the programs of others that judge the mesh; nothing is built from this file.
package judges

import (
	_ "github.com/coder/websocket"
	_ "github.com/rabbitmq/amqp091-go"
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "golang.org/x/net/http2"
	_ "google.golang.org/grpc/interop/client"
	_ "google.golang.org/grpc/interop/server"
)
